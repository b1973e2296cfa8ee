"""What stands between git and a server, as far as it is known: how git or the server says it, and what mends it.

In all texts: {url} and {owner} of the upstream; {address} and {host} that git takes for it; {folder} that is written
to, {elsewhere} to have another; {told} is what the pattern catches; {status}, {answer}, {wait} are of the last answer.
"""

from __future__ import annotations

LOOK = "See whether git reaches it: git ls-remote {url}"
_LOGIN = "Give git one, until this lists its branches: git ls-remote {url}"
_USE = "git config --global url.<base>.insteadOf {owner}/   (git then takes <base>REPOSITORY instead)"
_MIRROR = "Check the network. Without one, put a mirror of the repository anywhere and tell git:\n  " + _USE
_ADDRESS = "Mend the mirror's address: git config --show-origin --get-regexp url"
_AGAIN = "Run the same command again"
_PORTAL = (
    "A login page or a filter stands between here and {host}: open {address} in a browser and see. "
    "A mirror must speak git's smart protocol (git http-backend)"
)
_PROXY = "Set the right one: export https_proxy=http://USER:PASSWORD@HOST:PORT, or git config --global http.proxy"

CONFIGURATION = (
    "configuration",
    r"((?:bad (?:config|numeric|boolean)|bogus (?:config|count|format)|missing config|unable to parse command-line).*)",
    "git's own configuration is broken ({told})",
    "Mend what it names, until this ends well: git config --list",
)
ROWS: tuple[tuple[str, str, str, str], ...] = (
    (
        "full",
        r"(?m)^(?!remote: ).*(?:No space left on device|[Dd]isk quota exceeded|File too large|Out of diskspace"
        r"|died of signal 25|status (?:153|-25)\b)",
        "no space left on the disk, or in the quota, for {folder}",
        "Free some (df -h {folder}), or have it elsewhere: {elsewhere}",
    ),
    (
        "unwritable",
        r"(?m)^(?!remote: ).*(Read-only file system|File name too long|Input/output error|Stale file handle)",
        "{folder} cannot be written to ({told})",
        "Have it elsewhere: {elsewhere}",
    ),
    (
        "memory",
        r"(?m)^(?!remote: ).*([Oo]ut of memory|annot allocate memory|died of signal 9)",
        "there is not enough memory for git ({told})",
        "Free some (free -h), then run the same command again",
    ),
    (
        "limit",
        r"(cannot fork|Resource temporarily unavailable|Too many open files)",
        "git may start no more processes, or open no more files ({told})",
        "End some, or raise the limit: ulimit -u, ulimit -n",
    ),
    (
        "owner",
        r"dubious ownership in repository at '([^']+)'",
        "git does not trust {told}, which belongs to another user",
        "If you do: git config --global --add safe.directory {told}",
    ),
    CONFIGURATION,
    (
        "git",
        r"[Uu]nable to find remote helper for '(\w+)'|'remote-(\w+)' is not a git command|error while loading shared",
        "the git that is run here lacks the part that speaks {told}",
        "Install git whole, for example: apt-get install git; or mend GIT_EXEC_PATH: git --exec-path",
    ),
    (
        "program",
        r"cannot run ([^:\n]+): No such file|: ([\w./-]*ssh[\w./-]*): (?:command )?not found",
        "git does not find {told}, which it is to run",
        "Install it (apt-get install openssh-client), or name what is there: export GIT_SSH_COMMAND=...",
    ),
    (
        "protocol",
        r"transport '([\w.+-]+)' not allowed",
        "git may not use {told} here (GIT_ALLOW_PROTOCOL, or what sdc allows by itself: https, http, file, ssh)",
        _MIRROR,
    ),
    (
        "stall",
        r"Operation too slow|Operation timed out|SSL connection timeout|no progress for",
        "{host} stands still: nothing, or next to nothing, has come from it for too long",
        _AGAIN + ", or be more patient: git config --global http.lowSpeedTime 600",
    ),
    (
        "proxy",
        r"resolve proxy|from proxy after CONNECT|CONNECT tunnel failed|[Pp]roxy CONNECT|SOCKS[45]?\b|proxy handshake",
        "the proxy does not let git through",
        _PROXY,
    ),
    (
        "dns",
        r"Could not resolve host(?:name)?|Name or service not known|failure in name resolution|nodename nor servname",
        "the name {host} is not known here (DNS)",
        _MIRROR,
    ),
    (
        "client",
        r"[Cc]ertificate (?:is )?required|bad certificate|reading X\.509 key or certificate|client certificate",
        "{host} asks for a certificate of yours, or git cannot read it",
        "Name it and its key: export GIT_SSL_CERT=/path/to/me.pem GIT_SSL_KEY=/path/to/me.key",
    ),
    (
        "authorities",
        r"Problem with the SSL CA cert|error setting certificate|reading ca cert",
        "git cannot read the certificates that it is told to trust",
        "Name a file that is there: export GIT_SSL_CAINFO=/path/to/ca.pem",
    ),
    (
        "mismatch",
        r"does not match target host name|no alternative certificate subject name|subject name mismatch",
        "the certificate that {host} shows is another host's",
        _PORTAL,
    ),
    (
        "clock",
        r"certificate has expired|not yet valid|not yet activated|certificate is expired",
        "the certificate of {host} is of another time",
        "Set this machine's clock, if it is wrong (date); else wait until the server has a new one",
    ),
    (
        "plain",
        r"unexpected TLS packet|wrong version number|RECORD_TOO_LONG|unknown protocol|packet length",
        "{host} does not speak TLS at {address}",
        _PORTAL,
    ),
    (
        "drop",
        r"recv error|SSL_read|SSL_ERROR_SYSCALL|unexpected eof|reset by peer|Empty reply from server|early EOF"
        r"|unexpected disconnect|transfer closed|Recv failure|Send failure|Broken pipe|not closed cleanly"
        r"|invalid index-pack output|Connection closed by|endpoint is not connected",
        "the connection to {host} broke off",
        _AGAIN,
    ),
    (
        "tls",
        r"SSL|TLS|gnutls|certificate|CAfile",
        "{host} is not trusted, or cannot be spoken to by TLS",
        "Name the certificate of your network's authority: export GIT_SSL_CAINFO=/path/to/ca.pem",
    ),
    (
        "unanswered",
        r"Connection timed out|Timeout was reached|No route to host|(?:Network|Host) is (?:unreachable|down)",
        "{host} does not answer",
        _MIRROR,
    ),
    ("refused", r"Connection refused|connect to server|Failed to connect", "{host} refuses the connection", _MIRROR),
    (
        "stranger",
        r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED",
        "ssh does not know {host}, or knows it as another",
        "Say that you trust it, once, by hand: ssh {host}",
    ),
    (
        "login",
        r"Authentication failed|could not read (?:Username|Password)|Access denied|Too many authentication failures"
        r"|Permission denied \((?:publickey|password|keyboard|gssapi)",
        "{host} asks for a login that git does not have",
        _LOGIN,
    ),
    (
        "absent",
        r"URL rejected|URL using bad|[Mm]alformed|no path specified|invalid port|bad port|no host in",
        "{address} is no address",
        "",
    ),
    (
        "absent",
        r"[Rr]epository '?[^\n]*'? ?(?:not found|not exported|does not exist)|does not appear to be a git repository"
        r"|not a git repository",
        "there is no repository at {address}",
        "",
    ),
    (
        "portal",
        r"is this a git repository|invalid server response|bad line length character|dumb http transport"
        r"|unable to update url base|invalid content-type|Received HTTP/0\.9|disabled in libcurl"
        r"|protocol error: (?:expected|unexpected)|expected (?:flush|packet|response end)",
        "what {host} answers is not git's smart protocol",
        _PORTAL,
    ),
    (
        "commit",
        r"not our ref|unadvertised object|find remote ref|[Nn]ot a valid object name|not a tree|not our commit",
        "{address} does not have it",
        "",
    ),
    (
        "drop",
        r"hung up unexpectedly|RPC failed|remote end hung up",
        "the connection to {host} broke off",
        _AGAIN,
    ),
    (
        "unreadable",
        r"(?:access|open|read) '?([^'\n]+?)'?: Permission denied",
        "git may not read {told}",
        "Make it readable to you, or your own: ls -l {told}",
    ),
    (
        "damaged",
        r"inflate|corrupt|bad pack|index-pack failed|pack has|hash mismatch|is damaged",
        "what came from {host} is damaged",
        _AGAIN,
    ),
)
"""Names, what git says, what it means, what mends it; the first that is found is meant."""
STATUSES: dict[int, tuple[str, str, str]] = {
    401: ("login", "{host} asks for a login that git does not have (HTTP 401)", _LOGIN),
    403: ("forbidden", "{host} refuses access (HTTP 403)", "Ask whoever runs it, or have git use another: " + _USE),
    404: ("absent", "there is no repository at {address} (HTTP 404)", ""),
    407: ("proxy", "the proxy asks for a login (HTTP 407)", _PROXY),
    410: ("absent", "there is no repository at {address} any more (HTTP 410)", ""),
    429: ("busy", "{host} turns away too many requests (HTTP 429)", "Wait {wait}, then run the same command again"),
    511: ("portal", "the network asks for a login (HTTP 511)", _PORTAL),
}
"""Names, what a status means, what mends it."""
TROUBLE = ("trouble", "{host} is in trouble (HTTP {status})", "Wait {wait}, then run the same command again")
OTHER = ("status", "{host} answers with HTTP {status}", LOOK)
CONNECT = ("proxy", "the proxy does not let git through (HTTP {status})", _PROXY)
NOT_SMART = ("portal", "what {host} answers is not git's smart protocol: it is {answer}", _PORTAL)
BY_MIRROR = {
    ("absent", False): "It may have moved: look at {url} in a browser. A mirror would do: " + _USE,
    ("login", False): "It may be gone, or private: look at {url} in a browser. A mirror would do: " + _USE,
    ("absent", True): _ADDRESS,
    ("mismatch", True): _ADDRESS,
    ("plain", True): _ADDRESS,
    ("commit", False): "Its authors may have taken it back. A mirror that has it would do: " + _USE,
    ("commit", True): "Bring the mirror up to date; in its folder: git fetch --prune origin '+refs/*:refs/*'",
}
"""What depends on whether the user has named a mirror."""
