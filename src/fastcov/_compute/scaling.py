"""Powers of two that keep products of four responses in the range of float32."""

import math

# Largest |x| = 2**e with |e| up to this keeps every product of four responses, and their sums, well
# inside the range of float32, in which solvers multiply where that will do. Beyond, X is multiplied
# by a power of two, which is exact; so are gains, vectors and matrices that meet X in a product.
SAFE_EXPONENT = 20


def safe_exponent(size: float) -> int:
    """e such that size * 2**-e is near one; 0 where `size` is safe as it is."""
    e = math.frexp(size)[1] if size > 0 else 0
    return e if abs(e) > SAFE_EXPONENT else 0
