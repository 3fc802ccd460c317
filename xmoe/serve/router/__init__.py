"""Recordings -> answers: the glance, whom to ask, the calls, the combination. Knows no HTTP.

router     front end, stem, saliency and gate once; then experts; then combine
batching   waiting requests -> one block of work, without a timer
block      which requests of a block are complete, and their answers
fanout     a plan -> one stacked call per expert, until each request's deadline
further    later rounds: whom to ask after the first experts have answered
replan     a plan without the experts that failed
limits     how many experts one request may ask, and at what price
"""
