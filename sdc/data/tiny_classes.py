"""The classes of Tiny ImageNet, and the order in which each layout of it numbers them: both in this one place."""

from __future__ import annotations

_LINES = """
n02124075 Egyptian cat
n04067472 reel
n04540053 volleyball
n04099969 rocking chair, rocker
n07749582 lemon
n01641577 bullfrog, Rana catesbeiana
n02802426 basketball
n09246464 cliff, drop, drop-off
n07920052 espresso
n03970156 plunger, plumber's helper
n03891332 parking meter
n02106662 German shepherd, German shepherd dog, German police dog, alsatian
n03201208 dining table, board
n02279972 monarch, monarch butterfly, milkweed butterfly, Danaus plexippus
n02132136 brown bear, bruin, Ursus arctos
n04146614 school bus
n07873807 pizza, pizza pie
n02364673 guinea pig, Cavia cobaya
n04507155 umbrella
n03854065 organ, pipe organ
n03838899 oboe, hautboy, hautbois
n03733131 maypole
n01443537 goldfish, Carassius auratus
n07875152 potpie
n03544143 hourglass
n09428293 seashore, coast, seacoast, sea-coast
n03085013 computer keyboard, keypad
n02437312 Arabian camel, dromedary, Camelus dromedarius
n07614500 ice cream, icecream
n03804744 nail
n04265275 space heater
n02963159 cardigan
n02486410 baboon
n01944390 snail
n09256479 coral reef
n02058221 albatross, mollymawk
n04275548 spider web, spider's web
n02321529 sea cucumber, holothurian
n02769748 backpack, back pack, knapsack, packsack, rucksack, haversack
n02099712 Labrador retriever
n07695742 pretzel
n02056570 king penguin, Aptenodytes patagonica
n02281406 sulphur butterfly, sulfur butterfly
n01774750 tarantula
n02509815 lesser panda, red panda, panda, bear cat, cat bear, Ailurus fulgens
n03983396 pop bottle, soda bottle
n07753592 banana
n04254777 sock
n02233338 cockroach, roach
n04008634 projectile, missile
n02823428 beer bottle
n02236044 mantis, mantid
n03393912 freight car
n07583066 guacamole
n04074963 remote control, remote
n01629819 European fire salamander, Salamandra salamandra
n09332890 lakeside, lakeshore
n02481823 chimpanzee, chimp, Pan troglodytes
n03902125 pay-phone, pay-station
n03404251 fur coat
n09193705 alp
n03637318 lampshade, lamp shade
n04456115 torch
n02666196 abacus
n03796401 moving van
n02795169 barrel, cask
n02123045 tabby, tabby cat
n01855672 goose
n01882714 koala, koala bear, kangaroo bear, native bear, Phascolarctos cinereus
n02917067 bullet train, bullet
n02988304 CD player
n04398044 teapot
n02843684 birdhouse
n02423022 gazelle
n02669723 academic gown, academic robe, judge's robe
n04465501 tractor
n02165456 ladybug, ladybeetle, lady beetle, ladybird, ladybird beetle
n03770439 miniskirt, mini
n02099601 golden retriever
n04486054 triumphal arch
n02950826 cannon
n03814639 neck brace
n04259630 sombrero
n03424325 gasmask, respirator, gas helmet
n02948072 candle, taper, wax light
n03179701 desk
n03400231 frying pan, frypan, skillet
n02206856 bee
n03160309 dam, dike, dyke
n01984695 spiny lobster, langouste, rock lobster, crawfish, crayfish, sea crawfish
n03977966 police van, police wagon, paddy wagon, patrol wagon, wagon, black Maria
n03584254 iPod
n04023962 punching bag, punch bag, punching ball, punchball
n02814860 beacon, lighthouse, beacon light, pharos
n01910747 jellyfish
n04596742 wok
n03992509 potter's wheel
n04133789 sandal
n03937543 pill bottle
n02927161 butcher shop, meat market
n01945685 slug
n02395406 hog, pig, grunter, squealer, Sus scrofa
n02125311 cougar, puma, catamount, mountain lion, painter, panther, Felis concolor
n03126707 crane
n04532106 vestment
n02268443 dragonfly, darning needle, devil's darning needle, sewing needle, snake feeder, snake doctor,\
 mosquito hawk, skeeter hawk
n02977058 cash machine, cash dispenser, automated teller machine, automatic teller machine, automated teller,\
 automatic teller, ATM
n07734744 mushroom
n03599486 jinrikisha, ricksha, rickshaw
n04562935 water tower
n03014705 chest
n04251144 snorkel
n04356056 sunglasses, dark glasses, shades
n02190166 fly
n03670208 limousine, limo
n02002724 black stork, Ciconia nigra
n02074367 dugong, Dugong dugon
n04285008 sports car, sport car
n04560804 water jug
n04366367 suspension bridge
n02403003 ox
n07615774 ice lolly, lolly, lollipop, popsicle
n04501370 turnstile
n03026506 Christmas stocking
n02906734 broom
n01770393 scorpion
n04597913 wooden spoon
n03930313 picket fence, paling
n04118538 rugby ball
n04179913 sewing machine
n04311004 steel arch bridge
n02123394 Persian cat
n04070727 refrigerator, icebox
n02793495 barn
n02730930 apron
n02094433 Yorkshire terrier
n04371430 swimming trunks, bathing trunks
n04328186 stopwatch, stop watch
n03649909 lawn mower, mower
n04417672 thatch, thatched roof
n03388043 fountain
n01774384 black widow, Latrodectus mactans
n02837789 bikini, two-piece
n07579787 plate
n04399382 teddy, teddy bear
n02791270 barbershop
n03089624 confectionery, confectionary, candy store
n02814533 beach wagon, station wagon, wagon, estate car, beach waggon, station waggon, waggon
n04149813 scoreboard
n07747607 orange
n03355925 flagpole, flagstaff
n01983481 American lobster, Northern lobster, Maine lobster, Homarus americanus
n04487081 trolleybus, trolley coach, trackless trolley
n03250847 drumstick
n03255030 dumbbell
n02892201 brass, memorial tablet, plaque
n02883205 bow tie, bow-tie, bowtie
n03100240 convertible
n02415577 bighorn, bighorn sheep, cimarron, Rocky Mountain bighorn, Rocky Mountain sheep, Ovis canadensis
n02480495 orangutan, orang, orangutang, Pongo pygmaeus
n01698640 American alligator, Alligator mississipiensis
n01784675 centipede
n04376876 syringe
n03444034 go-kart
n01917289 brain coral
n01950731 sea slug, nudibranch
n03042490 cliff dwelling
n07711569 mashed potato
n04532670 viaduct
n03763968 military uniform
n07768694 pomegranate
n02999410 chain
n03617480 kimono
n06596364 comic book
n01768244 trilobite
n02410509 bison
n03976657 pole
n01742172 boa constrictor, Constrictor constrictor
n03980874 poncho
n02808440 bathtub, bathing tub, bath, tub
n02226429 grasshopper, hopper
n02231487 walking stick, walkingstick, stick insect
n02085620 Chihuahua
n01644900 tailed frog, bell toad, ribbed toad, tailed toad, Ascaphus trui
n02129165 lion, king of beasts, Panthera leo
n02699494 altar
n03837869 obelisk
n02815834 beaker
n07720875 bell pepper
n02788148 bannister, banister, balustrade, balusters, handrail
n02909870 bucket, pail
n03706229 magnetic compass
n07871810 meat loaf, meatloaf
n03447447 gondola
n02113799 standard poodle
n12267677 acorn
n03662601 lifeboat
n02841315 binoculars, field glasses, opera glasses
n07715103 cauliflower
n02504458 African elephant, Loxodonta africana
"""

WNIDS: tuple[str, ...] = tuple(line.split(" ", 1)[0] for line in _LINES.split("\n") if line)
"""As in the published wnids.txt."""
WORDS: tuple[str, ...] = tuple(line.split(" ", 1)[1] for line in _LINES.split("\n") if line)
"""What words.txt calls each of `WNIDS`."""
