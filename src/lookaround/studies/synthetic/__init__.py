"""Problems that need looking ahead, and models that learn them.

Two accuracies on validation problems that differ by no more than SAME are not told apart (two standard errors of an accuracy of
a half on 1,000 problems); one that is no more than GUESSING above chance is that of guessing.
"""

SAME, GUESSING = 0.03, 0.05
