// SPDX-License-Identifier: Apache-2.0
// Times a .nb model on an Android device or an ARM board, and compares its output with what is expected:
// classify MODEL.nb SHAPE [THREADS] [REPEATS] [INPUT.bin] [EXPECTED.bin]
// SHAPE is 1,3,224,224; INPUT.bin holds that many float32, else the input is 0.5 everywhere. EXPECTED.bin holds
// the first output (both are written by sample.py); exit code 1 when it differs by more than 5 % (root mean square).
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "paddle_api.h"  // from Paddle Lite's inference library

using paddle::lite_api::MobileConfig;
using paddle::lite_api::PaddlePredictor;
using paddle::lite_api::PowerMode;
using paddle::lite_api::Tensor;

namespace {

constexpr double kTolerance = 0.05;

std::vector<int64_t> ParseShape(const std::string& text) {
  std::vector<int64_t> shape;
  std::stringstream stream(text);
  for (std::string item; std::getline(stream, item, ',');) shape.push_back(std::atoll(item.c_str()));
  return shape;
}

int64_t Count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t size : shape) count *= size;
  return count;
}

bool Read(const char* path, float* data, int64_t count) {
  std::ifstream file(path, std::ios::binary);
  if (file.read(reinterpret_cast<char*>(data), count * sizeof(float))) return true;
  std::cerr << path << " holds fewer than " << count << " float32\n";
  return false;
}

// Root mean square difference over that of the expected values.
double Relative(const std::vector<float>& expected, const float* actual) {
  double difference = 0.0, power = 0.0;
  for (size_t k = 0; k < expected.size(); ++k) {
    difference += std::pow(static_cast<double>(actual[k]) - expected[k], 2);
    power += std::pow(static_cast<double>(expected[k]), 2);
  }
  return power > 0.0 ? std::sqrt(difference / power) : std::sqrt(difference);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: classify MODEL.nb SHAPE [THREADS] [REPEATS] [INPUT.bin] [EXPECTED.bin]\n";
    return 2;
  }
  const std::vector<int64_t> shape = ParseShape(argv[2]);
  const int threads = argc > 3 ? std::atoi(argv[3]) : 1;
  const int repeats = std::max(1, argc > 4 ? std::atoi(argv[4]) : 50);

  MobileConfig config;
  config.set_model_from_file(argv[1]);
  config.set_threads(threads);
  config.set_power_mode(PowerMode::LITE_POWER_HIGH);
  std::shared_ptr<PaddlePredictor> predictor = paddle::lite_api::CreatePaddlePredictor<MobileConfig>(config);

  std::unique_ptr<Tensor> input = predictor->GetInput(0);
  input->Resize(shape);
  float* data = input->mutable_data<float>();
  std::fill(data, data + Count(shape), 0.5f);
  if (argc > 5 && !Read(argv[5], data, Count(shape))) return 2;

  for (int k = 0; k < 5; ++k) predictor->Run();  // warm up
  std::vector<double> milliseconds;
  for (int k = 0; k < repeats; ++k) {
    const auto start = std::chrono::steady_clock::now();
    predictor->Run();
    milliseconds.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());

  std::unique_ptr<const Tensor> output = predictor->GetOutput(0);
  const float* scores = output->data<float>();
  const int64_t best = std::max_element(scores, scores + Count(output->shape())) - scores;
  std::cout << "median " << milliseconds[milliseconds.size() / 2] << " ms, largest output " << scores[best] << " at " << best
            << "\n";
  if (argc <= 6) return 0;
  std::vector<float> expected(Count(output->shape()));
  if (!Read(argv[6], expected.data(), expected.size())) return 2;
  const double relative = Relative(expected, scores);
  std::cout << "difference from the simulation " << 100.0 * relative << " %\n";
  return relative <= kTolerance ? 0 : 1;
}
