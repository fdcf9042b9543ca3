"""From text to grades: answers, their equality, step checking, programs in a sandbox. No model is called here.

`extraction` finds the final answer, `answers` grades it. To add a kind of gold answer: `grade.Kind` and `answers`.
"""
