"""What runs inside an upstream's process, around an unchanged upstream script.

Imports: nothing of ours. Higher rooms take `job` (what it is told), `memory` and `light` from it.
Read: job, __main__, tap; then the bridges: device, clock, serving, recorder, layout, light, whitening,
first_images, loop, turns; steps, follow, options, memory.
"""
