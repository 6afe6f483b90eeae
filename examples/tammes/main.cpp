// mma-tammes: points on a sphere with a large minimal angle; the paper's Table 1 and Figure 2.
#include <ATen/Parallel.h>

#include "support/process/error.hpp"
#include "tammes/command_line.hpp"
#include "tammes/gradients.hpp"

namespace {

using namespace mma::examples;

int run(int argc, char** argv) {
  const std::optional<TammesArguments> arguments = read_tammes_command_line(argc, argv);
  if (!arguments) return 0;
  at::set_num_threads(1);  // the solvers have threads of their own, and small tensors gain nothing by more
  if (const auto* of_solve = std::get_if<SolveArguments>(&*arguments)) return solve(*of_solve);
  if (const auto* of_table1 = std::get_if<Table1Arguments>(&*arguments)) return table1(*of_table1);
  const auto& of_gradients = std::get<GradientsArguments>(*arguments);
  show_gradients(of_gradients.out, of_gradients.plot);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("mma-tammes", [&] { return run(argc, argv); });
}
