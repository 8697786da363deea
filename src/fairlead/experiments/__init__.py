"""The statistics of rollouts and experiments: sums in, intervals and verdicts out.

Pure: nothing here sees a request, reads a clock or draws a random number.
"""
