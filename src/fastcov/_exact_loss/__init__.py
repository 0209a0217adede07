"""The exact loss, of fourth order in the gains: values, gradients, curvature, quartics of single gains."""
