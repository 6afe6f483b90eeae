// What an error of the library says.
#pragma once

#include <c10/util/Exception.h>

#include <string>

namespace measured {

/// The sentence of the c10::Error that the action throws.
template <class Action>
std::string message_of(const Action& action) {
  try {
    action();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "nothing thrown";
}

}  // namespace measured
