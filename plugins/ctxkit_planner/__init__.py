"""What a stage will need before it is paid for: memory, time, cost, and what to change where it does not fit."""
