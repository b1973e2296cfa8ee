"""From what a user asks to what will run: settings, the script's slot, the cell and its key. Writes nothing.

Imports: ground, adapters, patching, data, evaluation.
Read: request, cell, settings, fitting, refusals, needs, schedule.
"""
