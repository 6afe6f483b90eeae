// What goes over several processes: a classifier's rows sharded over them, under MMA and under ArcFace. In a header of
// its own because it includes c10d's, which not every LibTorch has; mma.hpp does without.
#pragma once

#include "distributed/arcface.hpp"
#include "distributed/minimal_angle.hpp"
#include "distributed/processes.hpp"
