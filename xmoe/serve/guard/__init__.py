"""What stands in front of every route: who may ask, how much and for how long.

auth       the door: request ids, tokens, headers
tokens     who may ask for what, and how much
clock      the longest that a request may take
drain      how many requests a router takes in; its last ones when it stops
problems   every refusal: status, code, message, mend
"""
