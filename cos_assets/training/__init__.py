"""From verified samples to evaluated models.

    sft_sets, arms, verification, pairs the rows that a data arm trains on
    contamination                       evaluation problems among these rows
    settings, scoring                   the blocks `finetune:` and `evaluation:` of a study
    job, data, packing, loss_mask       one finetuning, and its rows as tokens, batches and labels
    sft                                 the entry point: train, select a checkpoint, keep it
    loop, launch, worker                training at one learning rate, in this process or in several
    external, hosted                    training by the command of another trainer, and by a fine-tuning API
    preference                          trainers for pairs and labelled rows
    network, memory                     the network that is trained; the memory that one process needs
    checkpoint_selection, checkpoints   the candidate that validates best; finetuned models as table rows
    evaluation                          answers of a model to the problems of a benchmark

To add a setting, add a field in `settings` and use it in `loop` or `data`. A setting that changes the trained model
is part of `Finetune.recipe`.
"""
