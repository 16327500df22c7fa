"""Where the bits go: the plan format, what a solver chooses from, the solvers, the way from a solution to a plan."""
