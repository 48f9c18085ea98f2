"""Proofs that no layout exists: the finite space they range over, the bounds they use, their file and its checker.

Imports neither ortools nor the solver, so that a proof is checked by other code than what found it.
"""
