"""Grading: final answers, their equality, reasoning steps, and programs in a sandbox. No model is called here.

`extraction` finds the final answer, and `answers` grades it. To add a kind of gold answer, extend `grade.Kind` and
`answers`.
"""
