"""Compiling kernels: numba, with the machine code kept on disk where there is a place for it.

numba keeps it beside the source, or in `NUMBA_CACHE_DIR`, or in the user's cache folder; where none of them can be
written (a read-only install without a home) the kernel is compiled anew in each process instead of failing. numba
notices a change of the file that a kernel stands in, but not of other files: a kernel may only call kernels, and read
constants, of its own module.
"""

from collections.abc import Callable
from typing import TypeVar, cast

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def compiled(function: Kernel) -> Kernel:
    """Compile on first call, without the interpreter lock; arithmetic wraps and divides as numpy's."""
    import numba

    try:
        return cast(Kernel, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # no folder to keep the machine code in
        return cast(Kernel, numba.njit(nogil=True, error_model="numpy")(function))
