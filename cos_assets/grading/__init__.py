"""Grading: final answers, their equality, reasoning steps, and programs in a sandbox. No model is called here.

    grade                               the kinds of gold answers, the verdicts, and the grade of one answer
    answers, answer_classes             the verdict on each answer, and classes of equal answers
    reasoning                           where the reply starts, behind the reasoning
    extraction, statements              the final answer that a reply states
    numbers, units                      exact numbers, and units of normalized answers
    markup, characters, notation        from text as it is written to plain text, ASCII and one LaTeX notation
    math_equality                       mathematical equality of two answers
    steps                               checks of the reasoning
    equations, expressions, formulas    equations in a text, their arithmetic, and formulas in LaTeX
    identity                            which solutions count as one in diversity
    code, programs, harness             grading of programs, the program in a reply, and the analysis of its tests
    sandbox, syscalls, sandbox_runner   execution of untrusted programs; what runs inside
    instructions                        instruction following (IFEval)
    cores, isolated_workers             shared processor cores, and worker processes for graders that may hang

To add a kind of gold answer, extend `grade.Kind` and `answers`. A change of any rule raises `answers.GRADER_VERSION`.
"""
