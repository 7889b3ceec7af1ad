"""Facts, promises and opinions: cases, measurements, budgets, verdicts. Pure and seeded: no clock, no input or output,
no pytest, no torch; numpy only inside the functions that do statistics."""
