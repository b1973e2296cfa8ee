"""The science: sample difficulty and the scaling-law theory."""
