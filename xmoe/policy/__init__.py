"""Profile -> Policy: which front end, segments and experts suit a data set, and why.

``rules`` and ``experts`` decide from the profile alone. ``race`` has the remaining front ends
compete on the training clips, with a ridge on random kernels as a cheap classifier.
"""
