"""Sample difficulty: GraDN, over networks of one's choice, of sets, of real images, on the way, by weight.

Imports: ground, data, evaluation.
Read: gradn, judges, samples, panel, measure; then course, kept, backlog; trend, parts, figures.
"""
