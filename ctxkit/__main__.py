"""Run ctxkit as a folder (`accelerate launch ctxkit run ...`) or as a module (`python -m ctxkit run ...`)."""

import os
import sys

# Started as a folder, Python puts the folder itself first on the path, where our module names would shadow others.
_here = os.path.dirname(os.path.abspath(__file__))
if sys.path and os.path.abspath(sys.path[0] or ".") == _here:
    sys.path[0] = os.path.dirname(_here)

from ctxkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
