"""
What the log costs, side by side with what one would use instead: one module for each question.

``python -m benchmarks`` answers all of them, ``python -m benchmarks call take`` some. Each measurement runs
in a process of its own; rivals take turns, round by round, so that what disturbs one disturbs the others too.
Ratios are taken within a round, and a table shows their median and their range over the rounds.

"""
