"""Verdicts on answers, and judgements of reasoning by the step checker, models, votes and human annotators."""
