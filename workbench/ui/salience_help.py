"""How the Weight salience page is read, in our own words."""

HOW_TO_READ = (
    "**The map.** Each cell is one weight matrix: a row a role, a column a block of layers, from the input on the "
    "left to the output on the right. Bright cells score higher. Click a cell, or choose a matrix by name, to see "
    "inside it.\n\n"
    "**Unevenness.** A Gini coefficient of 0 means that all weights of a matrix matter alike, 1 that a single one "
    "has it all. The curve of a matrix that bends far above the dashed line can lose most of its weights' precision "
    "at little cost, if the few that matter are kept.\n\n"
    "**Channels.** The score of an input channel is the sum over the weights that read it; of a matrix with more "
    "than 512 inputs, means over neighbours are shown. Scores of different metrics have different units: compare "
    "their order, not their size.\n\n"
    "**Agreement.** Metrics that stand side by side and orange rank the weights alike. That is no proof of being "
    "right: the page *Which metric to believe* holds them against the measured loss.\n\n"
    "**Coverage of a prompt.** Salience here is gradient times weight. A prompt is short, and so shares little with a "
    "long text whatever it says; twelve passages of the calibration text that are as long as the prompt show how much "
    "is ordinary."
)
