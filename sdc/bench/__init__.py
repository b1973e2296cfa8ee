"""The benchmark: a spec, the cells that it asks for, and the engine that carries them out.

Imports: ground, adapters, patching, data, evaluation, plan, distillation, analysis (difficulty).
Read: spec, cells, looked_at, planning, conduct, work; then slots, engine, dispatch, tasks, blocks, losses, guard;
slurm, sbatch, scripts, stages; live, durations, choices.
"""
