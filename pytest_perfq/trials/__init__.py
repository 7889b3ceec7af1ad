"""Two sides of every case against each other: revisions, environments or configurations, timed alternately.

A *side* is an environment with the cases it is asked for; a *worker* is the process that measures for it; a *visit* times
both sides of one case; a *pass* visits every open case once, in fresh workers.
"""
