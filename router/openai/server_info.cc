#include "router/openai/server_info.h"

#include "router/openai/json_writer.h"

namespace baton {

std::string_view ReadyPhaseName(ReadyPhase phase) {
  switch (phase) {
    case ReadyPhase::kLoading:
      return "loading";
    case ReadyPhase::kReady:
      return "ready";
    case ReadyPhase::kDraining:
      return "draining";
  }
  return "unknown";
}

std::string RenderModel(const ServedModel& model) {
  std::string out = "{\"id\":";
  AppendJsonString(out, model.name);
  out += ",\"object\":\"model\",\"created\":";
  AppendInt(out, model.created_unix_s);
  out += ",\"owned_by\":\"baton\",\"root\":";
  AppendJsonString(out, model.root);
  out += ",\"parent\":null,\"max_model_len\":";
  AppendInt(out, model.max_model_len);
  out += ",\"vocab_size\":";
  AppendInt(out, model.vocab_size);
  out += '}';
  return out;
}

std::string RenderModelList(const ServedModel& model) {
  return "{\"object\":\"list\",\"data\":[" + RenderModel(model) + "]}";
}

std::string RenderReadiness(const Readiness& readiness) {
  std::string out = "{\"status\":";
  AppendJsonString(out, ReadyPhaseName(readiness.phase));
  out += ",\"detail\":";
  AppendJsonString(out, readiness.detail);
  out += '}';
  return out;
}

std::string RenderVersion(std::string_view version) {
  std::string out = "{\"version\":";
  AppendJsonString(out, version);
  out += '}';
  return out;
}

}  // namespace baton
