"""Upstream processes: experts, runs, calibrations, a patch's behaviour. One file starts them.

Imports: ground, adapters, launcher (job), patching, data, evaluation, plan.
Read: run, jobs, process; then experts, buffers, imported, history; calibrate, behaviour.
"""
