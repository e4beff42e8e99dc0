#include "base/json.h"

#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace halftone {
namespace {

void expect_error(std::string_view text, std::string_view substring) {
  try {
    (void)parse_json(text, "config.json");
    ADD_FAILURE() << "accepted: " << text.substr(0, 60);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Errc::kCorruptFile);
    EXPECT_NE(std::string(e.what()).find(substring), std::string::npos) << e.what();
    EXPECT_TRUE(std::string_view(e.what()).starts_with("config.json: ")) << e.what();
  }
}

TEST(JsonTest, ReadsEveryKindInOrder) {
  const Json j = parse_json(R"({"b": [1, 2.5, -3], "a": {"x": null, "y": true}, "s": "é\n"})", "t");
  ASSERT_TRUE(j.is_object());
  EXPECT_EQ(j.if_object()->front().first, "b");
  EXPECT_EQ(j.find("b")->if_array()->at(0).if_integer(), 1);
  EXPECT_EQ(j.find("b")->if_array()->at(1).if_integer(), std::nullopt);
  EXPECT_EQ(j.find("b")->if_array()->at(2).if_integer(), -3);
  EXPECT_TRUE(j.find("a")->find("x")->is_null());
  EXPECT_EQ(*j.find("s")->if_string(), "\xc3\xa9\n");
  EXPECT_EQ(parse_json("18446744073709551615", "t").if_unsigned(), 18446744073709551615ULL);
}

TEST(JsonTest, RefusesWhatIsNotStrictJson) {
  expect_error("", "invalid JSON at byte");
  expect_error("{", "invalid JSON at byte");
  expect_error("[1,]", "invalid JSON");
  expect_error("{} x", "invalid JSON");
  expect_error("// c\n{}", "invalid JSON");
  expect_error("NaN", "invalid JSON");
  expect_error("[Infinity]", "invalid JSON");
  expect_error("1e400", "invalid JSON");
  expect_error("\"\\ud800\"", "invalid JSON");
  expect_error("\"\xff\"", "invalid JSON");
  expect_error(std::string_view("{}\0junk", 7), "NUL byte");
  expect_error("\"a\\u0000b\"", "NUL");
}

TEST(JsonTest, ReadsPythonsNumbersOnlyWhereAllowed) {
  constexpr std::string_view kText =
      R"({"a": -Infinity, "b": [1, NaN, 2.5, Infinity], "s": "NaN \"Infinity", "NaN": -3})";
  expect_error(kText, "invalid JSON at byte");
  const Json json = parse_json(kText, "t", {.python_numbers = true});
  const JsonView view(json, "config.json");
  EXPECT_EQ(view.at("a").extended_number(), -std::numeric_limits<double>::infinity());
  const auto items = view.at("b").items();
  EXPECT_EQ(items.at(0).integer(), 1);
  EXPECT_TRUE(std::isnan(items.at(1).extended_number()));
  EXPECT_EQ(items.at(2).number(), 2.5);
  EXPECT_EQ(items.at(3).extended_number(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(view.at("s").string(), "NaN \"Infinity");
  EXPECT_EQ(view.at("NaN").integer(), -3);
  // Who asks for a number gets a finite one.
  for (const char* key : {"a", "b"}) {
    try {
      (void)(key[0] == 'a' ? view.at(key).number() : view.at(key).numbers().front());
      ADD_FAILURE() << key;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("wanted a finite number"), std::string::npos)
          << e.what();
    }
  }
  // We write strict JSON.
  EXPECT_EQ(to_text(*json.find("b")), "[1,null,2.5,null]");
  for (const std::string_view bad :
       {"1NaN", "--Infinity", "+Infinity", "-NaN", "nan", "Infinity1"}) {
    EXPECT_THROW((void)parse_json(bad, "t", {.python_numbers = true}), Error) << bad;
  }
}

TEST(JsonTest, RefusesDuplicateKeysAfterUnescaping) {
  expect_error(R"({"a":1,"a":2})", "duplicate key 'a'");
  expect_error(R"({"a":1,"\u0061":2})", "duplicate key 'a'");
  std::string many = "{";
  for (int i = 0; i < 40; ++i) many += "\"k" + std::to_string(i) + "\":0,";
  expect_error(many + "\"k3\":1}", "duplicate key 'k3'");
  EXPECT_NO_THROW((void)parse_json(R"([{"a":1},{"a":2}])", "t"));
}

TEST(JsonTest, BoundsDepthAndSize) {
  EXPECT_NO_THROW((void)parse_json(std::string(64, '[') + std::string(64, ']'), "t"));
  expect_error(std::string(65, '['), "deeper than 64");
  expect_error(std::string(1000000, '['), "deeper than 64");
  EXPECT_THROW((void)parse_json("[1,2,3]", "t", {.max_bytes = 4}), Error);
}

TEST(JsonTest, WriterRoundTrips) {
  const Json j = Json::object({{"i", 1},
                               {"u", 18446744073709551615ULL},
                               {"d", 1.0},
                               {"small", 1e-300},
                               {"third", 1.0 / 3},
                               {"f", 0.13025F},
                               {"s", "tab\t quote\" \\ \x01 \xf0\x9f\x98\x80"},
                               {"a", Json::array({1, "x", Json()})},
                               {"o", Json::object()}});
  for (int indent : {0, 2}) EXPECT_EQ(parse_json(to_text(j, indent), "t"), j);
  EXPECT_EQ(to_text(Json::object({{"f", 0.13025F}, {"one", 1.0}, {"n", std::stod("inf")}})),
            R"({"f":0.13025,"one":1.0,"n":null})");
  EXPECT_EQ(to_text(Json(std::string("a\xff") + "b")),
            "\"a\xef\xbf\xbd"
            "b\"");
  EXPECT_EQ(to_text(Json::object({{"a", Json::array({1, 2})}}), 2), "{\n  \"a\": [1, 2]\n}");
}

TEST(JsonViewTest, ErrorsNameFileKeyAndKinds) {
  const Json j = parse_json(
      R"({"channels": "x", "mixed": [1, 2.0], "deep": {"n": 3}, "e": 1e3, "z": -0, "null": null})",
      "t");
  const JsonView view(j, "unet/config.json");
  const auto message = [](const auto& get) -> std::string {
    try {
      (void)get();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(message([&] { return view.at("channels").integers(); }),
            "unet/config.json: key 'channels': got string, wanted array of integers");
  EXPECT_EQ(message([&] { return view.at("mixed").integers(); }),
            "unet/config.json: key 'mixed[1]': got number, wanted integer");
  EXPECT_EQ(message([&] { return view.at("deep").at("n").integer(4, 9); }),
            "unet/config.json: key 'deep.n': got 3, wanted an integer from 4 to 9");
  EXPECT_EQ(message([&] { return view.at("gone"); }), "unet/config.json: key 'gone' is missing");
  EXPECT_EQ(message([&] { return view.at("e").integer(); }),
            "unet/config.json: key 'e': got number, wanted integer");
  EXPECT_EQ(message([&] { return view.at("z").integer(); }),
            "unet/config.json: key 'z': got number, wanted integer");
  try {
    (void)view.at("deep").at("n").integer(4, 9);
    FAIL();
  } catch (const Error& e) {
    ASSERT_NE(e.details(), nullptr);
    EXPECT_EQ(e.details()->file, "unet/config.json");
    EXPECT_EQ(e.details()->key, "deep.n");
    EXPECT_EQ(e.details()->got, "3");
    EXPECT_EQ(e.details()->wanted, "an integer from 4 to 9");
  }
  EXPECT_EQ(view.integer_or("null", 7), 7);
  EXPECT_EQ(view.at("deep").integer_or("n", 7), 3);
  EXPECT_FALSE(view.has("null"));
}

}  // namespace
}  // namespace halftone
