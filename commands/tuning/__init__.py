"""The parts of `convd tune`: what may be chosen, how it is measured, and how the best is found."""
