"""How the Bit allocation page is read, in words."""

from __future__ import annotations

HOW_TO_READ = (
    "**Stored bits** count all that is kept for a weight: its code and its share of scales and zero points. "
    "Embeddings and norms are left alone and not counted; the size of the whole file counts them in 16 bits.\n\n"
    "**The prediction** is a sum over matrices: of what each one costs when it alone is quantized, or of its share of "
    "the change with all of them quantized. That is cheap and mostly right above 3 bits, but sums fail where all "
    "matrices are squeezed at once; so measure the plan before you trust it. A cost below zero is noise of the text: "
    "there, fewer bits happened to help.\n\n"
    "**By hand.** Choose another width in the table and the plan is yours; tick **locked** and the solver will work "
    "around it. Moving the budget lets the solver choose again, except where you locked.\n\n"
    "**Fused matrices.** Engines that join q, k and v, or gate and up, into one matrix need one scheme for them. The "
    "price of that is the difference between the two sums, never below zero where both are optimal.\n\n"
    "**Deciding.** Error bars are one standard error of the difference to the full model, paired over windows. A plan "
    "replaces the best uniform one only if it is better by more than 1.645 paired standard errors."
)
