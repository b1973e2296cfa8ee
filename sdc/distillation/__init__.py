"""Upstream processes: experts, runs, calibrations, a patch's behaviour. One file starts them.

Imports: ground, adapters, launcher (job, recorder), patching, data, evaluation, plan.
Read: run, jobs, process; then experts, training_time, lanes, buffers, imported, history; calibrate, behaviour,
first_update; needed, endings.
"""
