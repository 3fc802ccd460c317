"""Does saliency matter for routing? One set of experts, many routers, equal compute.

trained.py   a set of recordings -> its settings, spectrograms, and one mixture per seed
"""
