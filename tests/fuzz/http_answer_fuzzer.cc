// HTTP answers as servers send them to the load generator. However the stream is cut, the same
// head, body and end come out; what we write as a server is read as what was written.
#include <cstdint>
#include <string>
#include <vector>

#include "bench/load/client/response_parser.h"
#include "common/check.h"
#include "router/http/http_message.h"
#include "tests/fuzz/pieces.h"

namespace baton {
namespace {

struct Answer {
  int heads = 0;
  load::ResponseHead head;
  std::string body;
  bool failed = false;
  bool done = false;   // before the connection's end
  bool ended = false;  // the connection's end ends it well
};

Answer Read(const std::vector<std::string_view>& pieces) {
  Answer answer;
  load::ResponseParser parser({
      .on_head =
          [&answer](const load::ResponseHead& head) {
            answer.head = head;
            ++answer.heads;
          },
      .on_body = [&answer](std::string_view bytes) { answer.body += bytes; },
  });
  for (const std::string_view piece : pieces) {
    if (!parser.Push(piece)) {
      answer.failed = true;
      BATON_CHECK(!parser.error().empty());
      break;
    }
  }
  BATON_CHECK(answer.heads <= 1) << answer.heads;
  BATON_CHECK(answer.heads == 1 || answer.body.empty()) << answer.body;
  answer.done = parser.done();
  if (!answer.failed) answer.ended = parser.PushEnd();
  return answer;
}

void CheckEqual(const Answer& a, const Answer& b) {
  BATON_CHECK(a.failed == b.failed && a.done == b.done && a.ended == b.ended)
      << a.failed << b.failed << a.done << b.done << a.ended << b.ended;
  BATON_CHECK(a.heads == b.heads && a.head.status == b.head.status &&
              a.head.keep_alive == b.head.keep_alive && a.head.content_type == b.head.content_type)
      << a.heads << b.heads << ' ' << a.head.status << ' ' << b.head.status;
  // How much of a body comes before its framing is found broken may depend on the pieces.
  if (!a.failed) BATON_CHECK(a.body == b.body) << a.body << " / " << b.body;
}

void CheckOurs(std::string_view body, bool chunked) {
  const Framing framing{.keep_alive = chunked, .chunked = chunked};
  std::string stream = RenderStreamHead(framing);
  for (const std::string_view piece : PiecesOf(body)) AppendStreamBytes(piece, chunked, stream);
  AppendStreamEnd(chunked, stream);
  const Answer streamed = Read(PiecesOf(stream));
  BATON_CHECK(streamed.ended && streamed.done == chunked && streamed.body == body) << stream;
  BATON_CHECK(streamed.head.content_type == "text/event-stream") << stream;
  const HttpResponse response{.status = 404, .body = std::string(body)};
  const Answer whole = Read({RenderResponse(response, framing)});
  BATON_CHECK(whole.done && whole.head.status == 404 && whole.body == body) << body;
}

}  // namespace
}  // namespace baton

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace baton;  // NOLINT
  const std::string_view text = TextOf(data, size);
  // Every head ends: a parser that waits for the rest of one has not judged what it has.
  const std::string ended = std::string(text) + "\r\n\r\n";
  CheckEqual(Read({ended}), Read(PiecesOf(ended)));
  CheckOurs(text, /*chunked=*/true);
  CheckOurs(text, /*chunked=*/false);
  return 0;
}
