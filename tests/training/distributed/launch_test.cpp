// What a launcher's environment says, and what it must not say.
#include "training/distributed/launch.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <map>

#include "support/process/error.hpp"

namespace mma::examples {
namespace {

class LaunchOfEnvironment : public testing::Test {
 protected:
  LaunchOfEnvironment() { clear(); }
  ~LaunchOfEnvironment() override { clear(); }

  static void clear() {
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT",
                             "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_USE_AGENT_STORE", "CUDA_VISIBLE_DEVICES"}) {
      ::unsetenv(name);
    }
  }
  static void set(const std::map<std::string, std::string>& variables) {
    for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
  }
  static std::string refusal() {
    try {
      launch_of_environment();
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(LaunchOfEnvironment, IsNoneWhereTheProgramWasStartedByItself) {
  EXPECT_FALSE(launch_of_environment());
  set({{"MASTER_ADDR", "localhost"}, {"WORLD_SIZE", "2"}});
  EXPECT_FALSE(launch_of_environment());
}

TEST_F(LaunchOfEnvironment, IsReadFromTorchrunsVariables) {
  set({{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "node0"}, {"MASTER_PORT", "29500"}});
  Launch launch = launch_of_environment().value();
  EXPECT_EQ(launch.rank, 5);
  EXPECT_EQ(launch.world_size, 8);
  EXPECT_EQ(launch.local_rank, 1);
  EXPECT_EQ(launch.address, "node0");
  EXPECT_EQ(launch.port, 29500);
  EXPECT_EQ(launch.restarts, 0);
  EXPECT_FALSE(launch.has_agents_store);
  set({{"TORCHELASTIC_RESTART_COUNT", "2"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}});
  launch = launch_of_environment().value();
  EXPECT_EQ(launch.restarts, 2);
  EXPECT_TRUE(launch.has_agents_store);
}

TEST_F(LaunchOfEnvironment, ThatLacksSomethingIsRefusedByName) {
  set({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_PORT", "29500"}});
  EXPECT_NE(refusal().find("no MASTER_ADDR"), std::string::npos) << refusal();
  set({{"MASTER_ADDR", "localhost"}, {"MASTER_PORT", ""}});
  EXPECT_NE(refusal().find("no MASTER_PORT"), std::string::npos) << refusal();
}

TEST_F(LaunchOfEnvironment, OutOfItsRangeIsRefusedByName) {
  const std::map<std::string, std::string> sound = {
      {"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "29500"}};
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"RANK", "2"},
                                                        {"RANK", "-1"},
                                                        {"RANK", "x"},
                                                        {"WORLD_SIZE", "0"},
                                                        {"MASTER_PORT", "65536"},
                                                        {"MASTER_PORT", "29500 "},
                                                        {"LOCAL_RANK", "2"},
                                                        {"TORCHELASTIC_RESTART_COUNT", "-1"}}) {
    clear();
    set(sound);
    set({{name, value}});
    EXPECT_NE(refusal().find(name + "=" + value + "; a whole number from "), std::string::npos) << refusal();
  }
}

TEST_F(LaunchOfEnvironment, GivesEachProcessOfAMachineItsGpu) {
  const auto visible_to = [](int64_t local_rank) {
    Launch launch;
    launch.local_rank = local_rank;
    take_own_gpu(launch);
    return std::string(::getenv("CUDA_VISIBLE_DEVICES"));
  };
  EXPECT_EQ(visible_to(3), "3");
  set({{"CUDA_VISIBLE_DEVICES", "4,GPU-5,6"}});
  EXPECT_EQ(visible_to(1), "GPU-5");
  EXPECT_EQ(visible_to(1), "GPU-5");  // already chosen
  set({{"CUDA_VISIBLE_DEVICES", "4,5"}});
  EXPECT_THROW(visible_to(2), UserError);
}

}  // namespace
}  // namespace mma::examples
