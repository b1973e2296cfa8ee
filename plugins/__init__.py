"""The idea: the SDC loss term. Handed on by the package: `import sdc`.

Imports: nothing of ours; torch alone.
Read: sdc.
"""
