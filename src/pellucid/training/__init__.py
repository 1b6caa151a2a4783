"""Training: the only loop, what a step is (objectives), what moves the weights (optimisers, schedules), what survives a kill.

``loop.train`` does the work. ``batches`` says what it needs of data, ``checkpoint`` is what it writes, ``events`` what it
tells while it runs, ``history`` what it gives back, ``finder.find_lr`` proposes a learning rate, ``validation`` measures a
model on held-out rows.
"""
