"""The idea: the SDC loss term. Needs torch alone."""
