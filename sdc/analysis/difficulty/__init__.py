"""Sample difficulty: GraDN, over networks of one's choice, of sets, of real images, on the way, by weight.

Imports: ground, data, evaluation.
Read: gradn, judges with pupil, samples, panel, measure; then course, kept, backlog; trend, parts, figures.
"""
