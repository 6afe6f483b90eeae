// Must not compile, with a sentence that says what an objective is: see CMakeLists.txt.
#include <mma/mma.hpp>

struct NotAnObjective {
  int operator()(int) const { return 0; }
};

int main() {
  torch::nn::LinearImpl layer(2, 2);
  mma::Regularizer<NotAnObjective> regularizer(layer);
}
