// mma._C: the Regularizer for mma/regularizer.py. Every call releases the GIL; operators.cpp registers the rest.
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/utils/pybind.h>
#include <mma/options.hpp>
#include <mma/version.hpp>

#include "regularizer.hpp"

namespace {

namespace py = pybind11;
using mma::Options;
using mma::python::Regularizer;

/// What holds for torch's own functions: its errors as Python's, its warnings as Python's, the GIL released.
template <typename Function>
auto released(Function function) {
  return torch::wrap_pybind_function_no_gil(function);
}

mma::Scope scope_of(const std::string& name) {
  return name == "hidden" ? mma::Scope::Hidden : name == "output" ? mma::Scope::Output : mma::Scope::All;
}

void bind_options(py::module& module) {
  py::class_<Options>(module, "Options")
      .def(py::init<>())
      .def("coefficient", [](Options& o, double value) { o.coefficient(value); })
      .def("coefficient_of",
           [](Options& o, const std::string& pattern, double value) { o.coefficient(pattern, value); })
      .def("scope", [](Options& o, const std::string& name) { o.scope(scope_of(name)); })
      .def("output_layer", [](Options& o, const std::string& name) { o.output_layer(name); })
      .def("include", [](Options& o, const std::string& pattern) { o.include(pattern); })
      .def("exclude", [](Options& o, const std::string& pattern) { o.exclude(pattern); })
      .def("minimum_rows", [](Options& o, int64_t value) { o.minimum_rows(value); })
      .def("across_groups", [](Options& o, bool value) { o.across_groups(value); })
      .def("refresh_every", [](Options& o, int64_t steps) { o.refresh_every(steps); })
      .def("concurrent", [](Options& o, bool value) { o.concurrent(value); })
      .def("share", [](Options& o, int64_t rank, int64_t world_size) { o.share(rank, world_size); });
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.attr("version") = std::string(mma::version);
  bind_options(module);
  py::class_<Regularizer, std::shared_ptr<Regularizer>>(module, "Regularizer")
      .def(py::init(torch::wrap_pybind_function(mma::python::new_regularizer)))
      .def_property_readonly("key", &Regularizer::key)
      .def("set_modules", released(&Regularizer::set_modules))
      .def("add", released(&Regularizer::add))
      .def("chosen", released(&Regularizer::chosen))
      .def("names", released(&Regularizer::names))
      .def("accumulate_gradient", released(&Regularizer::accumulate_gradient))
      .def("start", released(&Regularizer::start))
      .def("layer_losses", released(&Regularizer::layer_losses))
      .def("report", released(&Regularizer::report))
      .def("state", released(&Regularizer::state))
      .def("load_state", released(&Regularizer::load_state));
  module.def("regularizer_of", released(mma::python::regularizer_by_key));
}
