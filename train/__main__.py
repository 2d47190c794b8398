"""`python -m train --config FILE[:VARIATION] [--workdir DIR] [--config.KEY=VALUE ...]`."""

import sys

from train.runtime import signals

if __name__ == '__main__':
    signals.before_start()
    from train import cli  # JAX takes a second to import

    signals.leave(cli.main(sys.argv))
