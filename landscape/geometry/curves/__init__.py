"""Kinds of curves between two minima, one file each; the file's name is the kind's name.

A curve is theta(s) = sum_j c_j(s) P_j with P_0 = A, P_last = B; the points between ("bends") are trained. A file holds

    BENDS                          how many bends there are unless told otherwise; 0: nothing to train
    coefficients(s, points)        c_j(s), (len(s), points); exactly A at 0 and B at 1
    gradient(points, coefficients, step, seed, gradients)
                                   (what an optimizer step subtracts a multiple of, (points, size); the mean loss);
                                   gradients(vectors, numbers) gives gradients and losses on mini-batches by number
"""
