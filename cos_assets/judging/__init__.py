"""Verdicts on answers, and judgements of reasoning.

    verdicts                verdicts of samples by their final answers
    readable                whether answers can be extracted at all, checked before the rest is bought
    methods                 the registry of judge methods, and their interface
    steps, llm, vote        the methods: the step checker, a model, a majority vote of judges
    table                   the samples that a judge gets, and the table of its labels
    controls, rates         solutions known to be right or wrong; false positive rates and the judges' own errors
    labels, label_page      labels by people: export, import, agreement with the judges
    verifier_data           labelled samples as training data for verifiers

To add a judge method, write a `Method` and register it. See docs/extending.md.
"""
