"""Does saliency matter for routing? One set of experts, many routers, equal compute.

trained.py   a set of recordings -> its settings, spectrograms, and one mixture per seed
evidence.py  what a router may read of a clip, the router's own kinds and candidates
observe.py   a fixed mixture + clips -> evidence and the answer of every expert, as tensors
arms.py      which evidence each router of the comparison is fed
heads.py     an arm -> a gate and promises over K, fitted on the fixed rest
curves.py    decisions -> how right each clip is at any mean number of experts
cells.py     one seed, one arm -> a file that need not be made again
compare.py   cells of all seeds -> differences at equal compute, with intervals
draw.py      the same as one picture
study.py     all of it, resumable
"""
