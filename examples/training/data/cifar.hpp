// CIFAR-100 and CIFAR-10 in both of their publisher's layouts: binary records, and the pickles of Python that
// torchvision leaves, which are read as data; nothing in them is executed.
#pragma once

#include <filesystem>
#include "training/data/data_files.hpp"

#include "training/data/dataset.hpp"

namespace mma::examples {

/// train.bin and test.bin, or train and test of cifar-100-python: the fine labels.
void read_cifar100(const Place& place, Dataset& dataset);

/// data_batch_1 to data_batch_5 and test_batch, with .bin or without as in cifar-10-batches-py.
void read_cifar10(const Place& place, Dataset& dataset);

}  // namespace mma::examples
