"""The scaling law of pruning: a max-margin perceptron trained on the easy or the hard examples, solved and simulated.

Imports: ground.
Read: margins, saddle, perceptron; then sweeps, figures.
"""
