#include "engine/tokenizer/jinja/template.h"

#include <utility>

#include "absl/status/status.h"
#include "common/check.h"
#include "engine/tokenizer/jinja/ast.h"
#include "engine/tokenizer/jinja/evaluator.h"
#include "engine/tokenizer/jinja/parser.h"

namespace baton::jinja {

struct Template::Impl {
  Body body;
};

Template::Template(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Template::~Template() = default;

absl::StatusOr<std::unique_ptr<Template>> Template::Parse(std::string_view source) {
  auto impl = std::make_unique<Impl>();
  ASSIGN_OR_RETURN(impl->body, ParseTemplate(source));
  return std::unique_ptr<Template>(new Template(std::move(impl)));
}

absl::StatusOr<std::string> Template::Render(const Value& context) const {
  if (!context.IsDict()) {
    return absl::InvalidArgumentError("chat template context: must be an object");
  }
  return Evaluator(impl_->body, context).Render();
}

}  // namespace baton::jinja
