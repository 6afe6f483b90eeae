// Ctrl-C and SIGTERM: the first one asks the run to stop at the next step, a second one ends the program at once.
#pragma once

namespace mma::examples {

/// From now on the two signals only raise a flag; a run past its file size limit gets an error instead of SIGXFSZ.
void watch_for_interruption();

/// The signal that has come, or 0.
int interruption();

}  // namespace mma::examples
