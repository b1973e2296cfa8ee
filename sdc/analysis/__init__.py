"""The science: how difficult samples are (`difficulty`), and what is known of keeping easy or hard ones (`theory`).

Imports: ground, data, evaluation.
Read: difficulty, theory.
"""
