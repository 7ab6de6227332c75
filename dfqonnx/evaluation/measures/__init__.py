"""Measures that a user of a task knows, of the float model and the student.

    against labels             NAME            map, map50, miou, characters, lines, top1
    float model as truth       fidelity_NAME   its own boxes, masks and texts taken as labels
    distance of the outputs    mae, correlation, psnr, ssim; to labels: label_mae and so on

The distances need no labels. Every measure says in a sentence what its number means.
"""
